"""The shared page cache: which pages of files are one page, held as a model, as a cache, and as mapped memory."""

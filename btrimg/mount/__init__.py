"""The image as a mounted filesystem whose files share pages: the FUSE protocol, spoken on /dev/fuse."""

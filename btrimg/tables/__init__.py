"""The whole image as relations: columns of numpy, and SQL over them."""

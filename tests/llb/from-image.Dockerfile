FROM base

# An image alone.

FROM base
ADD {web}/archive.tar a /x/

# With a file of the context.

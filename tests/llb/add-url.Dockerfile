FROM base
ADD {web}/archive.tar /x/

# A file of a web server.

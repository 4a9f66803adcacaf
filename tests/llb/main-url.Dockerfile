FROM base
COPY x /x

# An archive of a web server.
# build: {web}/archive.tar

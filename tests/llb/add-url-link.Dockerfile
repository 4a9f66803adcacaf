FROM base
ADD --link {web}/archive.tar /x/

# As a layer of its own.

FROM scratch
COPY --link a /x/
COPY --link b /y/

# On nothing, a layer of its own is the file alone.

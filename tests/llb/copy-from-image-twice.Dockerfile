FROM base
COPY --from=full /bin/sh /1
COPY --from=full:latest /bin/sh /2

# From one image twice.

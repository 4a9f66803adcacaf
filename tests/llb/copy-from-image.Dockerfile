FROM scratch
COPY --from=base /bin/sh /sh

# From an image.

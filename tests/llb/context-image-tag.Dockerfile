FROM nowhere:1
RUN one
FROM nowhere:1
COPY --from=nowhere:1 /bin/sh /2

# An image for one of another tag.
# build: --build-context nowhere:1=docker-image://full

FROM base
COPY a /
RUN one

# Nothing is taken from the cache.
# build: --no-cache

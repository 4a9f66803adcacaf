FROM base
RUN --mount=type=cache,target=/c one

# Caches of one's own.
# build: --build-arg BUILDKIT_CACHE_MOUNT_NS=mine

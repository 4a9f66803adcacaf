FROM base
RUN --mount=type=cache,target=/c one

# A cache.

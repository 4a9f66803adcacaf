FROM base AS one
RUN one
FROM base
RUN --mount=type=cache,target=/c,from=one,source=/etc one
RUN --mount=type=cache,target=/d,from=one,uid=5 two

# What it begins with.

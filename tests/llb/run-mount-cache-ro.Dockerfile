FROM base
RUN --mount=type=cache,target=/c,ro one

# Read only.

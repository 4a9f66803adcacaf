FROM base
RUN --mount=type=cache,target=/c,id=x,sharing=locked one
RUN --mount=type=cache,target=/c,id=x,sharing=private two
RUN --mount=type=cache,target=/c/../d/,sharing=shared three

# With a name, and what several may do.

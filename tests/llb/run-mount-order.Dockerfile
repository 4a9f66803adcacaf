FROM base
RUN --mount=type=tmpfs,target=/z --mount=type=cache,target=/a --mount=target=/m --mount=type=tmpfs,target=/a/b one

# Mounts are sorted by where they are.

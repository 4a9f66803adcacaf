FROM base AS one
FROM base
RUN --mount=type=ssh --mount=type=secret,id=s --mount=type=secret,id=e,env=E --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --mount=from=one,target=/o --mount=target=/x one

# One of each.

FROM base
RUN --mount=type=cache,target=/c,uid=1,gid=2,mode=700 one
RUN --mount=type=cache,target=/c,mode=0777 two

# Whose it is.

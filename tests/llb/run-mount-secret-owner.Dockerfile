FROM base
RUN --mount=type=secret,id=x,uid=1,gid=2 one
RUN --mount=type=secret,id=x,mode=0444 two

# Whose it is.

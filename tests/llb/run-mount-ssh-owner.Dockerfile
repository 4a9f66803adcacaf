FROM base
RUN --mount=type=ssh,uid=1 one
RUN --mount=type=ssh,mode=0666,target=/agent two

# Whose it is.

FROM base
ENV SSH_AUTH_SOCK=/mine
RUN --mount=type=ssh one

# A variable that is set already.

FROM base
RUN --mount=type=secret,id=x one
RUN --mount=type=secret,source=x,target=/s two
RUN --mount=type=secret,target=/a/b three

# A secret.

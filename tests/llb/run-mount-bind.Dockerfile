FROM base
RUN --mount=target=/ctx one
RUN --mount=type=bind,source=dir,target=/ctx two

# Files of the context.

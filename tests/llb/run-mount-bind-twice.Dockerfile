FROM base
RUN --mount=source=dir,target=/1 --mount=source=a,target=/2 one

# One file system at two places.

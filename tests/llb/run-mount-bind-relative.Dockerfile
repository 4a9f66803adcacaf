FROM base
WORKDIR /w
RUN --mount=target=x one
RUN --mount=type=bind,source=a,target=./b/../c two
RUN --mount=target=. three

# A target in the working directory.

FROM base AS one
RUN one
FROM base
RUN --mount=from=one,target=/one --mount=from=full,source=/bin,dst=/two two

# Files of a stage and of an image.

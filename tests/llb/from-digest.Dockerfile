FROM base:latest@{base}
RUN x

# An image by its digest as well.

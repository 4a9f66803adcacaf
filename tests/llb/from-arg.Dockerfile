ARG NAME=ba
ARG END=se
FROM ${NAME}${END}
RUN x

# An ARG before FROM names the image.

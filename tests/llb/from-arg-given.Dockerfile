ARG NAME
FROM $NAME
RUN x

# A build argument names the image.
# build: --build-arg NAME=base

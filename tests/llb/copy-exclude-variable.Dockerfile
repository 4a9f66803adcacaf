FROM base
ARG P=a
COPY --exclude=$P . /x/

# Variables are not expanded in them.

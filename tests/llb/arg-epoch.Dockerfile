FROM base
WORKDIR /w
RUN one

# When directories are made.
# build: --build-arg SOURCE_DATE_EPOCH=1000000000

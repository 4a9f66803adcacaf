FROM base
RUN --network=none one
RUN --network=host two
RUN --network=default three

# A network, and none.
# build: --network host --allow network.host

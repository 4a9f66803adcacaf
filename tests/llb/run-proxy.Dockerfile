FROM base
RUN one

# Proxies.
# build: --build-arg HTTP_PROXY=http://p:1 --build-arg no_proxy=localhost

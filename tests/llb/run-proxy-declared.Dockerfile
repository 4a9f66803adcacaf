FROM base
ARG HTTP_PROXY
RUN $HTTP_PROXY

# A proxy that is declared is a variable, too.
# build: --build-arg HTTP_PROXY=http://p:1

FROM base
LABEL a=1 b="two words" c=$FROM_BASE
EXPOSE 80 53/udp 8000-8002
VOLUME /v ["/w"]
VOLUME ["/x", "/y z"]
STOPSIGNAL SIGINT
USER 1:2
MAINTAINER me
ENTRYPOINT ["/e", "x y"]
CMD c d
HEALTHCHECK --interval=1m30s --timeout=2s --start-period=1s --start-interval=3s --retries=10 CMD ["check", "it"]
ONBUILD RUN x
SHELL ["/bin/sh", "-c"]

# All that is no step.
# build: --label b=3 --label z=9

FROM other
RUN one
FROM base
COPY --from=other /bin/sh /x

# An OCI layout.
# build: --build-context other=oci-layout://{layout}

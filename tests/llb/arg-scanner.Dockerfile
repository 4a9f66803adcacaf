FROM base
ARG BUILDKIT_SBOM_SCAN_STAGE=true X=1
RUN one

# Arguments for a scanner.

FROM base
RUN one

# A control group.
# build: --cgroup-parent mine

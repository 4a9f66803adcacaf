FROM base
ARG E= S=set P=/a/b.tar.gz
ENV A=${U:-w} B=${E:-w} C=${E-w} D=${S:+w} F=${U+w} G=${P#*/} H=${P##*/} I=${P%.*} J=${P%%.*} K=${P/a/x} L=${P//a/x}
RUN one

# All operators.

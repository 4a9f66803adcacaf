FROM base
RUN <<-'EOF'
	#!/bin/sh
	echo
	EOF

# The same with tabs.

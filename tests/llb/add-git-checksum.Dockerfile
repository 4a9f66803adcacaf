FROM base
ADD --checksum={commit} {git}/repo.git#main /x/

# With a checksum.

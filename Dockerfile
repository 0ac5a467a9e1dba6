# The images of Kontiki: one static program each, nothing else. `make image` puts the programs and
# the passwd file into target/image, which is all that .dockerignore lets through.
FROM scratch AS base
COPY target/image/passwd /etc/passwd
USER 65532:65532

FROM base AS kontiki-node
COPY target/image/kontiki-node /usr/bin/kontiki-node
# 7400 clients, 7401 peers and admin, 7402 metrics and probes
EXPOSE 7400 7401 7402
ENTRYPOINT ["/usr/bin/kontiki-node"]

FROM base AS kontiki-operator
COPY target/image/kontiki-operator /usr/bin/kontiki-operator
ENTRYPOINT ["/usr/bin/kontiki-operator"]

# A host of the pillar: gateways have tunnels, others only routes.
---
{%- from 'tunnel64d/map.jinja' import tunnels with context %}

include:
  - tunnel64d.pillar
{%- if tunnels %}
  - tunnel64d.package
{%- endif %}
  - tunnel64d.config
  - tunnel64d.sysctl
  - tunnel64d.routes
  - tunnel64d.service

---
{%- from 'tunnel64d/map.jinja' import package, tunnels, tunnel64d with context %}

include:
  - tunnel64d.service.clean

tunnel64d-package-removed:
  pkg.{{ 'purged' if tunnel64d.purge else 'removed' }}:
    - name: {{ package.name | json }}
    - order: last

# The unit leaves it to all tunnels together.
/run/tunnel64d:
  file.absent:
    - order: last
    - require:
      - pkg: tunnel64d-package-removed

{%- for path in ['/var/cache/tunnel64d', '/etc/apt/sources.list.d/tunnel64d.list', '/etc/apt/keyrings/tunnel64d.asc'] %}

{{ path }}:
  file.absent: []
{%- endfor %}

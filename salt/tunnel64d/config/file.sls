# The file of each tunnel, checked by the daemon before it takes the place of the one there.
---
{%- from 'tunnel64d/map.jinja' import tunnels with context %}

include:
  - tunnel64d.pillar
  - tunnel64d.keys
{%- if tunnels %}
  - tunnel64d.package
{%- endif %}
{%- for name, tunnel in tunnels.items() %}
{%- if not tunnel.get('absent') %}
{%- set found = salt['tunnel64d_pillar.config'](name, tunnel) %}

tunnel64d-{{ name }}-config:
  tunnel64d.config_present:
    - name: {{ name | json }}
    - config: {{ found.config | json }}
    - problems: {{ found.problems | json }}
    - require:
      - tunnel64d_package: tunnel64d-package
{%- endif %}
{%- endfor %}

# Keys stay: peers know them. With `purge: True`, of one tunnel or of all, they go.
---
{%- from 'tunnel64d/map.jinja' import tunnels, tunnel64d with context %}
{%- for name, tunnel in tunnels.items() %}
{%- set path = salt['tunnel64d_pillar.key_file'](name, tunnel) %}
{%- if path and (tunnel64d.purge or tunnel.get('purge')) %}

tunnel64d-{{ name }}-key-absent:
  file.absent:
    - name: {{ path | json }}
{%- endif %}
{%- endfor %}

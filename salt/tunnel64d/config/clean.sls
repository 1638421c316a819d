---
{%- from 'tunnel64d/map.jinja' import tunnels with context %}

include:
  - tunnel64d.service.clean
{%- for name in (tunnels.keys() | list + salt['tunnel64d.ours']()) | unique %}

tunnel64d-{{ name }}-config-absent:
  file.absent:
    - name: /etc/tunnel64d/{{ name }}.toml
    - require:
      - tunnel64d: tunnel64d-{{ name }}-dead
{%- endfor %}

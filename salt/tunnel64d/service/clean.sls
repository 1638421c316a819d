---
{%- from 'tunnel64d/map.jinja' import tunnels with context %}
{%- for name in (tunnels.keys() | list + salt['tunnel64d.ours']()) | unique %}

tunnel64d-{{ name }}-dead:
  tunnel64d.dead:
    - name: {{ name | json }}
{%- endfor %}

/run/tunnel64d-salt:
  file.absent: []

# The private key of each tunnel: made here once and never again, or given by the pillar.
---
{%- from 'tunnel64d/map.jinja' import tunnels with context %}

include:
  - tunnel64d.pillar
{%- if tunnels %}
  - tunnel64d.package
{%- endif %}
{%- for name, tunnel in tunnels.items() %}
{%- set path = salt['tunnel64d_pillar.key_file'](name, tunnel) %}
{%- if path and not tunnel.get('absent') %}

tunnel64d-{{ name }}-key:
  {%- if tunnel.get('private_key') %}
  file.managed:
    - name: {{ path | json }}
    - contents_pillar: tunnel64d:tunnels:{{ name }}:private_key
    - user: root
    - group: tunnel64d
    - mode: '0640'
    - show_changes: false
  {%- else %}
  tunnel64d.key_present:
    - name: {{ path | json }}
  {%- endif %}
    - require:
      - tunnel64d_package: tunnel64d-package
{%- endif %}
{%- endfor %}

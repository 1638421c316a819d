# Each tunnel runs, with what lies there now. Last, and only a change reloads or restarts.
---
{%- from 'tunnel64d/map.jinja' import package, routes, service, tunnels with context %}

include:
  - tunnel64d.pillar
  - tunnel64d.config
  - tunnel64d.sysctl
  - tunnel64d.routes
{%- for name, tunnel in tunnels.items() %}
{%- if tunnel.get('absent') or tunnel.get('enabled', true) is sameas false %}

tunnel64d-{{ name }}-dead:
  tunnel64d.dead:
    - name: {{ name | json }}
{%- if tunnel.get('absent') %}

tunnel64d-{{ name }}-absent:
  file.absent:
    - name: /etc/tunnel64d/{{ name }}.toml
    - require:
      - tunnel64d: tunnel64d-{{ name }}-dead
{%- set path = salt['tunnel64d_pillar.key_file'](name, tunnel) %}
{%- if path and tunnel.get('purge') %}

tunnel64d-{{ name }}-key-absent:
  file.absent:
    - name: {{ path | json }}
    - require:
      - tunnel64d: tunnel64d-{{ name }}-dead
{%- endif %}
{%- endif %}
{%- else %}

tunnel64d-{{ name }}-enabled:
  tunnel64d.enabled:
    - name: {{ name | json }}
    - require:
      - tunnel64d: tunnel64d-{{ name }}-config

tunnel64d-{{ name }}-running:
  tunnel64d.running:
    - name: {{ name | json }}
    - apply: {{ tunnel.get('apply', 'auto') | json }}
    {%- if service.roll_timeout %}
    # A tunnel that is new has to wait for its other end, which is not up yet.
    - wait: returning
    - wait_connected: {{ service.roll_timeout }}
    {%- else %}
    - wait: {{ service.wait | json }}
    - wait_connected: {{ tunnel.get('wait_connected', service.wait_connected) }}
    {%- endif %}
    - restart_outdated: {{ package.restart_on_upgrade | json }}
    - order: last
    - require:
      - tunnel64d: tunnel64d-{{ name }}-enabled
      - tunnel64d_sysctl: tunnel64d-sysctl
      {%- for destination in routes %}
      - tunnel64d: tunnel64d-route-{{ destination }}
      {%- endfor %}
    - watch:
      - tunnel64d: tunnel64d-{{ name }}-config
      {%- if salt['tunnel64d_pillar.key_file'](name, tunnel) %}
      - {{ 'file' if tunnel.get('private_key') else 'tunnel64d' }}: tunnel64d-{{ name }}-key
      {%- endif %}
{%- endif %}
{%- endfor %}

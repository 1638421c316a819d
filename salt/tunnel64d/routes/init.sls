# Routes of this host itself. Those through a tunnel belong to the tunnel's interface.
---
{%- from 'tunnel64d/map.jinja' import routes with context %}

include:
  - tunnel64d.pillar
{%- for destination, route in routes.items() %}

tunnel64d-route-{{ destination }}:
  tunnel64d.route_{{ 'absent' if route.get('absent') else 'present' }}:
    - name: {{ destination | json }}
    {%- for key, value in route.items() if key != 'absent' %}
    - {{ key }}: {{ value | json }}
    {%- endfor %}
{%- endfor %}

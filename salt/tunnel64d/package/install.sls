# The package: from a file, or from a repository. Running tunnels stay as they are.
---
{%- from 'tunnel64d/map.jinja' import package, package_file, package_from with context %}

include:
  - tunnel64d.pillar
{%- if package_from == 'source' %}

tunnel64d-package-file:
  file.managed:
    - name: {{ package_file | json }}
    - source: {{ package.source | json }}
    {%- if package.source_hash %}
    - source_hash: {{ package.source_hash | json }}
    {%- endif %}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: true
{%- elif package_from == 'repository' and package.repository %}
{%- if package.repository_key %}

tunnel64d-repository-key:
  file.managed:
    - name: /etc/apt/keyrings/tunnel64d.asc
    - contents_pillar: tunnel64d:package:repository_key
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: true
    - require_in:
      - file: tunnel64d-package-file
{%- endif %}

tunnel64d-package-file:
  file.managed:
    - name: /etc/apt/sources.list.d/tunnel64d.list
    - contents: {{ package.repository | json }}
    - user: root
    - group: root
    - mode: '0644'
{%- endif %}

tunnel64d-package:
  tunnel64d_package.installed:
    - name: {{ package.name | json }}
    {%- if package_from != 'repository' %}
    - path: {{ package_file | json }}
    {%- endif %}
    {%- if package_from == 'source' and package.source_hash %}
    - source_hash: {{ package.source_hash | json }}
    {%- endif %}
    {%- if package.version %}
    - version: {{ package.version | json }}
    {%- endif %}
    {%- if package_from == 'source' or package.repository %}
    - require:
      - file: tunnel64d-package-file
    {%- endif %}

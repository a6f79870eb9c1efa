{{- define "mailserver.name" -}}
{{- if contains "mailserver" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-mailserver" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "mailserver.selector" -}}
app.kubernetes.io/name: mailserver
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mailserver.labels" -}}
{{ include "mailserver.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ .Values.partOf }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "mailserver.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}
{{- else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "mailserver.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "mailserver.name" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* The Deployments: what each listens for, and how it is named. */}}
{{- define "mailserver.roles" -}}
{{- $listeners := dict "mx" (list "smtp") "submission" (list "submission" "submissions") "imap" (list "imaps") "jmap" (list) "worker" (list) -}}
{{- $roles := list -}}
{{- if .Values.roles -}}
{{- range $role, $settings := .Values.roles -}}
{{- $roles = append $roles (dict "role" $role "suffix" (printf "-%s" $role) "listeners" (get $listeners $role) "settings" ($settings | default dict) "background" (or (eq $role "worker") (not (hasKey $.Values.roles "worker")))) -}}
{{- end -}}
{{- else -}}
{{- $roles = append $roles (dict "role" "all" "suffix" "" "listeners" (list "smtp" "submission" "submissions" "imaps") "settings" dict "background" true) -}}
{{- end -}}
{{ dict "roles" $roles | toJson }}
{{- end }}

{{- define "mailserver.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "mailserver.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The environment that every container of the program has. Secrets come as files: renewed ones
are read again without a restart. */}}
{{- define "mailserver.environment" -}}
- { name: MAILSERVER_SERVER__HOSTNAME, value: {{ .Values.hostname | quote }} }
- { name: MAILSERVER_SERVER__WORKERS, value: {{ .Values.workers | quote }} }
- { name: MAILSERVER_SERVER__GRACE, value: {{ .Values.grace | quote }} }
- { name: MAILSERVER_SERVER__STOP_DELAY, value: {{ .Values.stopDelay | quote }} }
- { name: MAILSERVER_DATABASE__URL_FILE, value: /run/secrets/mailserver/database }
{{- if .Values.database.directExistingSecret }}
- { name: MAILSERVER_DATABASE__DIRECT_URL_FILE, value: /run/secrets/mailserver/database-direct }
{{- end }}
{{- if ne .Values.database.notices "auto" }}
- { name: MAILSERVER_DATABASE__NOTICES, value: {{ .Values.database.notices | quote }} }
{{- end }}
- { name: MAILSERVER_DATABASE__POOL_SIZE, value: {{ .Values.database.poolSize | quote }} }
- { name: MAILSERVER_S3__ENDPOINT, value: {{ .Values.s3.endpoint | quote }} }
- { name: MAILSERVER_S3__REGION, value: {{ .Values.s3.region | quote }} }
- { name: MAILSERVER_S3__BUCKET, value: {{ .Values.s3.bucket | quote }} }
- { name: MAILSERVER_S3__PREFIX, value: {{ .Values.s3.prefix | quote }} }
- { name: MAILSERVER_S3__ACCESS_KEY_FILE, value: /run/secrets/mailserver/s3-access-key }
- { name: MAILSERVER_S3__SECRET_KEY_FILE, value: /run/secrets/mailserver/s3-secret-key }
{{- if .Values.oidc.issuer }}
- { name: MAILSERVER_OAUTH__ISSUER, value: {{ .Values.oidc.issuer | quote }} }
- { name: MAILSERVER_OAUTH__AUDIENCE, value: {{ .Values.oidc.audience | quote }} }
- { name: MAILSERVER_OAUTH__LOGIN_CLAIM, value: {{ .Values.oidc.loginClaim | quote }} }
- { name: MAILSERVER_OAUTH__CLIENT_ID, value: {{ .Values.oidc.clientId | quote }} }
- { name: MAILSERVER_OAUTH__INTROSPECTION_URL, value: {{ .Values.oidc.introspectionUrl | quote }} }
{{- if .Values.oidc.existingSecret }}
- { name: MAILSERVER_OAUTH__CLIENT_SECRET_FILE, value: /run/secrets/mailserver/oidc }
{{- end }}
{{- end }}
{{- if .Values.sealing.existingSecret }}
- { name: MAILSERVER_SERVER__SECRET_KEY_FILE, value: /run/secrets/mailserver/sealing }
{{- end }}
- { name: MAILSERVER_TLS__CERTIFICATE, value: /run/tls/tls.crt }
- { name: MAILSERVER_TLS__KEY, value: /run/tls/tls.key }
- { name: MAILSERVER_HTTP__PUBLIC_URL, value: {{ .Values.publicUrl | quote }} }
{{- with .Values.proxies.forwarded }}
- { name: MAILSERVER_HTTP__FORWARDED_NETWORKS, value: {{ join " " . | quote }} }
- { name: MAILSERVER_HTTP__FORWARDED_FIELD, value: {{ $.Values.proxies.field | quote }} }
{{- end }}
{{- if .Values.tracing.endpoint }}
- { name: MAILSERVER_TRACING__ENDPOINT, value: {{ .Values.tracing.endpoint | quote }} }
- { name: MAILSERVER_TRACING__RATIO, value: {{ .Values.tracing.ratio | quote }} }
{{- end }}
- { name: MAILSERVER_METRICS__PREFIX, value: {{ .Values.metrics.prefix | quote }} }
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "mailserver.mounts" -}}
- { name: secrets, mountPath: /run/secrets/mailserver, readOnly: true }
- { name: tls, mountPath: /run/tls, readOnly: true }
- { name: temporary, mountPath: /tmp }
{{- end }}

{{- define "mailserver.volumes" -}}
- name: temporary
  emptyDir: { sizeLimit: {{ .Values.temporary }} }
- name: tls
  secret: { secretName: {{ .Values.tls.existingSecret }} }
- name: secrets
  projected:
    sources:
      - secret:
          name: {{ .Values.database.existingSecret }}
          items: [{ key: {{ .Values.database.key }}, path: database }]
      {{- if .Values.database.directExistingSecret }}
      - secret:
          name: {{ .Values.database.directExistingSecret }}
          items: [{ key: {{ .Values.database.directKey }}, path: database-direct }]
      {{- end }}
      - secret:
          name: {{ .Values.s3.existingSecret }}
          items:
            - { key: {{ .Values.s3.accessKey }}, path: s3-access-key }
            - { key: {{ .Values.s3.secretKey }}, path: s3-secret-key }
      {{- if and .Values.oidc.issuer .Values.oidc.existingSecret }}
      - secret:
          name: {{ .Values.oidc.existingSecret }}
          items: [{ key: {{ .Values.oidc.key }}, path: oidc }]
      {{- end }}
      {{- if .Values.sealing.existingSecret }}
      - secret:
          name: {{ .Values.sealing.existingSecret }}
          items: [{ key: {{ .Values.sealing.key }}, path: sealing }]
      {{- end }}
{{- end }}

{{/* The name of all objects. 40 characters leave room for what Kubernetes appends to the names of pods. */}}
{{- define "windlass.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "windlass.pipelinesNamespace" -}}
{{- default .Release.Namespace .Values.pipelines.namespace -}}
{{- end -}}

{{/* Call with (dict "root" $ "component" "gateway"). */}}
{{- define "windlass.selectorLabels" -}}
app.kubernetes.io/name: windlass
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "windlass.labels" -}}
{{ include "windlass.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: windlass
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Call with (dict "root" $ "image" .Values.x.image). A digest says more than a tag, so it wins. */}}
{{- define "windlass.image" -}}
{{- $registry := default .image.registry .root.Values.global.imageRegistry -}}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") -}}
{{- $default := ternary (printf "%s-%s" .root.Chart.AppVersion (toString .image.flavor)) .root.Chart.AppVersion (hasKey .image "flavor") -}}
{{- if .image.digest -}}
{{ $name }}@{{ .image.digest }}
{{- else -}}
{{ $name }}:{{ default $default .image.tag }}
{{- end -}}
{{- end -}}

{{- define "windlass.pullSecrets" -}}
{{- with .Values.global.imagePullSecrets -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- end -}}

{{- define "windlass.placement" -}}
{{- with .Values.nodeSelector -}}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- with .Values.tolerations -}}
tolerations:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- end -}}

{{/* Call with the section that has runAsUser, runAsGroup and fsGroup. */}}
{{- define "windlass.podSecurity" -}}
runAsNonRoot: true
{{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
{{- if ne (get $ $key | toString) "" }}
{{ $key }}: {{ get $ $key | int64 }}
{{- end }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "windlass.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "windlass.storageRoot" -}}
{{- required "storage.root is missing: say where results go, such as --set storage.root=s3://bucket/windlass" .Values.storage.root | trimSuffix "/" -}}
{{- end -}}

{{- define "windlass.artifacts" -}}
{{- default (printf "%s/mlflow" (include "windlass.storageRoot" .)) .Values.mlflow.artifacts.destination | trimSuffix "/" -}}
{{- end -}}

{{/* Variables by which boto3, MLflow's client and ours find the object store. */}}
{{- define "windlass.storageEnv" -}}
- {name: AWS_REGION, value: {{ .Values.storage.region | quote }}}
- {name: AWS_DEFAULT_REGION, value: {{ .Values.storage.region | quote }}}
- {name: WINDLASS_S3_ADDRESSING, value: {{ .Values.storage.addressing }}}
{{- with .Values.storage.endpoint }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
- {name: MLFLOW_S3_ENDPOINT_URL, value: {{ . | quote }}}
# Other servers than AWS refuse the checksums that boto3 sends by default.
- {name: AWS_REQUEST_CHECKSUM_CALCULATION, value: when_required}
- {name: AWS_RESPONSE_CHECKSUM_VALIDATION, value: when_required}
{{- end }}
{{- $path := and .Values.storage.endpoint (eq .Values.storage.addressing "auto") }}
- {name: MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE, value: {{ ternary "path" .Values.storage.addressing (not (empty $path)) }}}
{{- with .Values.storage.existingSecret }}
{{- range $key := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "AWS_SESSION_TOKEN" }}
- name: {{ $key }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.storage.existingSecret }}, key: {{ $key }}{{ if eq $key "AWS_SESSION_TOKEN" }}, optional: true{{ end }}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "windlass.databaseSecret" -}}
{{- required "database.existingSecret is missing: make a Secret with the password of PostgreSQL under the key `password` and name it" .Values.database.existingSecret -}}
{{- end -}}

{{- define "windlass.databaseHost" -}}
{{- if .Values.postgres.enabled -}}
{{- if .Values.database.host }}{{ fail "database.host names an external PostgreSQL; set postgres.enabled=false with it" }}{{ end -}}
{{ include "windlass.fullname" . }}-postgres
{{- else -}}
{{ required "database.host is missing: postgres.enabled is false, so name the external PostgreSQL" .Values.database.host }}
{{- end -}}
{{- end -}}

{{/* Under which names a Service is reached. Call with (dict "root" $ "component" "mlflow"). */}}
{{- define "windlass.serviceNames" -}}
{{- $name := printf "%s-%s" (include "windlass.fullname" .root) .component -}}
{{- $namespace := .root.Release.Namespace -}}
{{- list $name (printf "%s.%s" $name $namespace) (printf "%s.%s.svc" $name $namespace) (printf "%s.%s.svc.%s" $name $namespace .root.Values.clusterDomain) | toJson -}}
{{- end -}}

{{- define "windlass.trackingUri" -}}
http://{{ include "windlass.fullname" . }}-mlflow.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}:5000
{{- end -}}

{{- define "windlass.gatewayUri" -}}
http://{{ include "windlass.fullname" . }}-gateway.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}:8080
{{- end -}}

{{/* Who may start training jobs, as RBAC subjects in JSON. */}}
{{- define "windlass.launchers" -}}
{{- $own := dict "namespace" (include "windlass.pipelinesNamespace" .) "name" (printf "%s-pipeline" (include "windlass.fullname" .)) -}}
{{- $subjects := list -}}
{{- range prepend .Values.pipelines.additionalServiceAccounts $own -}}
{{- $subjects = append $subjects (dict "kind" "ServiceAccount" "namespace" .namespace "name" .name) -}}
{{- end -}}
{{- $subjects | toJson -}}
{{- end -}}

{{/* A policy's match condition: the request comes from a run. */}}
{{- define "windlass.fromLaunchers" -}}
{{- $users := list -}}
{{- range include "windlass.launchers" . | fromJsonArray -}}
{{- $users = append $users (printf "system:serviceaccount:%s:%s" .namespace .name) -}}
{{- end -}}
- name: from-a-run
  expression: request.userInfo.username in {{ $users | toJson | replace "\"" "'" }}
{{- end -}}

{{/* Call with (dict "root" $ "name" NAME-OF-THE-POLICY). */}}
{{- define "windlass.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels:
    {{- include "windlass.labels" (dict "root" .root "component" "pipeline") | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
  matchResources:
    namespaceSelector:
      matchLabels: {kubernetes.io/metadata.name: {{ include "windlass.pipelinesNamespace" .root }}}
{{- end -}}

{{/* The password goes in apart, so that any character may be in it, and no list of processes shows it. */}}
{{- define "windlass.databaseEnv" -}}
{{- $host := include "windlass.databaseHost" . -}}
{{- $port := ternary 5432 (int .Values.database.port) .Values.postgres.enabled -}}
- {name: MLFLOW_BACKEND_STORE_URI, value: {{ printf "postgresql+psycopg2://%s@%s:%d/%s" (urlquery .Values.database.user) $host $port .Values.database.name | quote }}}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef: {name: {{ include "windlass.databaseSecret" . }}, key: {{ .Values.database.passwordKey }}}
- {name: PGCONNECT_TIMEOUT, value: "5"}
{{- if not .Values.postgres.enabled }}
- {name: PGSSLMODE, value: {{ .Values.database.sslMode }}}
{{- if .Values.database.caSecret }}
- {name: PGSSLROOTCERT, value: /etc/windlass/database/ca.crt}
{{- end }}
{{- end }}
{{- end -}}

{{- define "windlass.mlflowMounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if and .Values.database.caSecret (not .Values.postgres.enabled) }}
- {name: database-ca, mountPath: /etc/windlass/database, readOnly: true}
{{- end }}
{{- end -}}
